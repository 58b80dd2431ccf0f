"""Where items are."""

from rest_framework.routers import DefaultRouter

from shop.views import ItemViewSet

router = DefaultRouter()
router.register("items", ItemViewSet)
urlpatterns = router.urls
